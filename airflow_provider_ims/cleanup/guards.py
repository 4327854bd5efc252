"""What must hold before the first request: refusals that leave everything as it was."""

from __future__ import annotations

from airflow_provider_ims.cleanup.targets import Targets
from airflow_provider_ims.exceptions import IMSGuardError


def check_guards(targets: Targets, *, max_media: int | None = None, digest: str | None = None) -> None:
    """Refuse what its author did not have in mind.

    :param max_media: more targets than this are a mistake.
    :param digest: SHA-256 of the manifest as it was approved.
    :raises IMSGuardError: in either case.
    :raises ValueError: when ``max_media`` is no number of media.
    """
    if max_media is not None and not (type(max_media) is int and max_media >= 0):
        raise ValueError(f"max_media is {max_media!r}, not a number of media")
    if digest is not None:
        check_digest(targets.manifest_digest, approved=digest)
    if max_media is not None and len(targets) > max_media:
        raise IMSGuardError(
            f"{len(targets):,} media are named, more than max_media={max_media:,}. Nothing was deleted"
        )


def check_digest(found: str | None, *, approved: str) -> None:
    """Refuse another manifest than the one that was approved.

    :raises IMSGuardError: if the two SHA-256 differ.
    """
    if found != approved.strip().lower():
        raise IMSGuardError(
            f"the manifest is not the one that was approved: its SHA-256 is {found}, "
            f"approved was {approved}. Nothing was deleted"
        )
