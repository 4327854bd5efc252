"""The run's own media: a folder with its id, files of a second's length in it, and what is registered of them.

Whatever is tried is noted before it is sent, so that an interrupted run finds all that it made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from airflow_provider_ims.api import operations
from airflow_provider_ims.api.client import IMSClient
from airflow_provider_ims.api.errors import IMSError, IMSPermissionError, IMSTransientError
from airflow_provider_ims.api.identifiers import MAX_MEDIA_PER_CALL
from airflow_provider_ims.api.rate_limit import RateLimiter
from airflow_provider_ims.files.storage import storage_path
from airflow_provider_ims.hooks.ims import IMSHook
from tests.live.guard import ForeignTargetError, Guard, GuardedClient

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

SECOND = Path(__file__).with_name("second.mp4")
"""A second of grey and silence, 64 x 64. Made by ffmpeg: ``-f lavfi -i color=c=gray:s=64x64:r=10:d=1 -f lavfi -i
anullsrc=r=8000:cl=mono -t 1 -c:v libx264 -crf 40 -c:a aac -b:a 8k -movflags +faststart``."""
_SETTLE_SECONDS = 20.0


class NotTold(Exception):
    """A question has no answer in this run; the text says why."""


class GuardedHook(IMSHook):
    """The provider's own hook on the guarded client.

    :param rate: requests per second at most.
    """

    def __init__(self, ims_conn_id: str, guard: Guard, rate: float) -> None:
        super().__init__(ims_conn_id)
        self.guard = guard
        self.rate = rate
        self.clients: list[GuardedClient] = []

    @cached_property
    def client(self) -> GuardedClient:  # type: ignore[override]
        return self.make_client(rate=self.rate, retry_seconds=30)

    def make_client(self, *, rate: float, **options: object) -> GuardedClient:
        """Return one more client, with options of ``IMSClient``; ``credentials`` in place of the connection's."""
        settings = self.settings
        client = GuardedClient(
            self.guard,
            settings.endpoint,
            options.pop("credentials", settings.credentials),
            connection=self.ims_conn_id,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            verify=settings.verify,
            proxy=settings.proxy,
            pace=RateLimiter(max_requests_per_second=rate),
            **options,
        )
        self.clients.append(client)
        return client


class OwnMedium(NamedTuple):
    """A medium that this run made; ``name`` is its file's in the folder, ``url`` as it was registered."""

    media_id: str
    url: str
    name: str


@dataclass(frozen=True)
class LeftOver:
    """What could not be cleaned up, and why."""

    what: str
    reason: str


class Media:
    """Makes files and media, hands them to the questions, and takes them all away at the end.

    :param base: the account's folder for this, ``oss://conn_id@bucket/key``.
    :param region: of the bucket and the service.
    :param say: told what goes on.
    """

    def __init__(
        self, hook: GuardedHook, base: ObjectStoragePath, region: str, say: Callable[[str], None]
    ) -> None:
        self.hook = hook
        self.region = region
        self.mark = f"ims-live-{hook.guard.run_id}"
        self.folder = base / self.mark
        self.bucket = base.bucket
        self.made = 0
        self.running: set[str] = set()
        """Jobs that have not ended as far as is known; what they write may come later."""
        self.left: list[LeftOver] = []
        """What is known already that it can't be cleaned up."""
        self._say = say
        self._tried: set[str] = set()
        self._ids: dict[str, str] = {}
        self._unused: list[OwnMedium] = []

    @property
    def client(self) -> IMSClient:
        """The guarded client."""
        return self.hook.client

    def url(self, name: str, scheme: str = "https") -> str:
        """Return the URL of a file in the folder, percent-encoded as a URL is; ``oss`` names the key as it is."""
        key = f"{self.folder.key}/{name}"
        if scheme == "oss":
            return f"oss://{self.bucket}/{key}"
        return f"{scheme}://{self.bucket}.oss-{self.region}.aliyuncs.com/{quote(key)}"

    def make(self, name: str, *, url: str = "") -> OwnMedium:
        """Write a file and register it."""
        self.path(name).write_bytes(SECOND.read_bytes())
        url = url or self.url(name)
        media_id = self.register(url)
        self.made += 1
        return OwnMedium(media_id, url, name)

    def register(self, url: str) -> str:
        """Register a file of the folder, without the pictures that the service would make of it."""
        self.expect(url)
        media_id = self.client.call(
            "RegisterMediaInfo",
            {
                "InputURL": url,
                "MediaType": "video",
                "Title": self.mark,
                "MediaTags": self.mark,
                "RegisterConfig": '{"NeedSprite":"false","NeedSnapshot":"false"}',
            },
            lambda body: str(body["MediaId"]),
        ).value
        self.adopt(media_id, url)
        return media_id

    def adopt(self, media_id: str, url: str) -> None:
        """Take over a medium that the service made of a file in the folder."""
        self.hook.guard.adopt(media_id, url)
        self._ids[media_id] = url

    def prepare(self, count: int) -> None:
        """Make a supply, once a first medium has shown that what is made can also be taken away.

        :raises NotTold: when it can't.
        """
        first = self.make("first.mp4")
        if still := self._delete_all([first.media_id]):
            raise NotTold(f"a first medium can't be deleted ({still[first.media_id]}), so no more are made")
        self.path(first.name).unlink()
        for number in range(count):
            self._unused.append(self.make(f"{number:03d}.mp4"))

    def some(self, count: int = 1) -> list[OwnMedium]:
        """Return media that are there and go on to be; for reads."""
        return self._enough(count)[-count:]

    def take(self, count: int = 1, *, of: Collection[str] | None = None) -> list[OwnMedium]:
        """Hand out media that nobody else gets; for deletions.

        :param of: ids among which to choose.
        """
        taken = [own for own in self._enough(count) if of is None or own.media_id in of][:count]
        if len(taken) < count:
            raise NotTold(
                f"only {len(taken)} of the media that were asked for are its own, {count} are needed"
            )
        self._unused = [own for own in self._unused if own not in taken]
        return taken

    def _enough(self, count: int) -> list[OwnMedium]:
        if len(self._unused) < count:
            raise NotTold(f"only {len(self._unused)} media of its own are left, {count} are needed")
        return self._unused

    def path(self, name: str) -> ObjectStoragePath:
        """Return where a file of the folder lies."""
        if not self.hook.guard.owns_url(self.url(name, "oss")):
            raise ValueError(f"{name!r} leads out of the run's folder")
        return self.folder / name

    def expect(self, url: str) -> None:
        """Note a URL at which a medium may come to be registered."""
        self._tried.add(url)

    def clean_up(self) -> list[LeftOver]:
        """Take away every medium and every file that was made; return what could not be.

        Whatever else fails is told as left over, never raised: what is still there matters more.
        """
        left = self.left + [
            LeftOver(
                f"job {job_id}", f"it may still run, and write into {self.folder} or where its workflow says"
            )
            for job_id in sorted(self.running)
        ]
        self._say(f"cleaning up {len(self._tried)} media and their files")
        unknown = sorted(self._tried - set(self._ids.values()))
        try:
            operations.list_media_basic_infos(self.client, max_results=1)
        except IMSTransientError as error:
            # Each of a hundred media would be tried for as long in vain.
            left += [LeftOver(f"medium {one} ({url})", f"perhaps; {error}") for one, url in self._ids.items()]
            left += [LeftOver(f"a medium that may be registered for {url}", str(error)) for url in unknown]
            return left + self._remove_files()
        except IMSError:
            pass  # a key that may not list may delete
        for url in unknown:
            try:
                if found := operations.get_media_info(self.client, input_url=url).value:
                    # By the URL that it shows: another medium than was asked for is not this run's.
                    self.adopt(found.media_id, found.input_url or "")
            except (IMSError, ValueError, ForeignTargetError) as error:
                left.append(LeftOver(f"a medium that may be registered for {url}", str(error)))
        left += [
            LeftOver(f"medium {media_id} ({self._ids[media_id]})", reason)
            for media_id, reason in self._delete_all(list(self._ids)).items()
        ]
        left += self._remove_files()
        self._say(f"cleaned up; {len(left)} things are left over")
        return left

    def _remove_files(self) -> list[LeftOver]:
        try:
            for file in self._files():
                file.unlink()
            return [LeftOver(f"file {file}", "still there after its deletion") for file in self._files()]
        except (OSError, IMSError, ValueError) as error:
            return [LeftOver(f"files in {self.folder}", str(error))]

    def _files(self) -> list[ObjectStoragePath]:
        with suppress(FileNotFoundError):
            return [file for file in self.folder.rglob("*") if not file.is_dir()]
        return []

    def _delete_all(self, media_ids: list[str]) -> dict[str, str]:
        """Delete media and wait until they are gone; return those that are still there, and why."""
        until = time.monotonic() + _SETTLE_SECONDS
        reasons: dict[str, str] = {}
        while media_ids := [one for batch in _batches(media_ids) for one in self._there(batch, reasons)]:
            # A key that may not delete will not be allowed to by waiting.
            is_allowed = all([self._delete(batch, reasons) for batch in _batches(media_ids)])
            if not is_allowed or time.monotonic() > until:
                break
            time.sleep(0.5)
        return {media_id: reasons.get(media_id, "still shown") for media_id in media_ids}

    def _there(self, media_ids: list[str], reasons: dict[str, str]) -> list[str]:
        """Return those of a batch that are shown, or of which nothing could be told."""
        try:
            found = operations.find_media(self.client, media_ids).value
            unread: dict[str, IMSError] = {**found.refused}
            there = [*found.shown, *unread]
        except IMSError as error:
            there, unread = media_ids, dict.fromkeys(media_ids, error)
        reasons.update({media_id: f"could not be read: {error}" for media_id, error in unread.items()})
        return there

    def _delete(self, media_ids: list[str], reasons: dict[str, str]) -> bool:
        """Send one deletion; return whether the key may delete."""
        try:
            answer = operations.delete_media_infos(
                self.client, media_ids=media_ids, delete_physical_files=False
            )
            reasons.update(dict.fromkeys(map(str.strip, answer.value.forbidden), "its deletion is forbidden"))
        except IMSError as error:
            if len(media_ids) > 1 and not isinstance(error, IMSTransientError | IMSPermissionError):
                return all([self._delete([media_id], reasons) for media_id in media_ids])
            reasons.update(dict.fromkeys(media_ids, str(error)))
            return not isinstance(error, IMSPermissionError)
        return True


def _batches(media_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(media_ids), MAX_MEDIA_PER_CALL):
        yield media_ids[start : start + MAX_MEDIA_PER_CALL]


def make_media(conn_id: str, base: str, run_id: str, rate: float, say: Callable[[str], None]) -> Media:
    """Return the media of a run, which has made none yet.

    :raises ValueError: when the connection names no region, or the folder makes no sense.
    """
    path = storage_path(base.rstrip("/"), "--folder", ims_conn_id=conn_id)
    if path.protocol != "oss" or not path.key.strip("/"):
        raise ValueError(f"--folder {base!r} must be a folder in a bucket, oss://bucket/folder")
    guard = Guard(run_id, f"oss://{path.bucket}/{path.key}/ims-live-{run_id}")
    hook = GuardedHook(conn_id, guard, rate)
    if not hook.region:
        raise ValueError(f"connection {conn_id!r} must name a region: files are registered by it")
    return Media(hook, path, hook.region, say)
