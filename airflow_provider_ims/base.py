"""What operators and sensors have in common: connection, links, and that no argument vanishes in rendering."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_ims.api.identifiers import is_missing, show
from airflow_provider_ims.arguments import is_nothing
from airflow_provider_ims.exceptions import IMSGuardError
from airflow_provider_ims.hooks.ims import IMSHook

if TYPE_CHECKING:
    from airflow_provider_ims.compat import ObjectStoragePath


class IMSTask:
    """A mixin for operators and sensors, to stand before Airflow's base class.

    Given and empty is not the same as left out. A filter, cap or path that the DAG's author wrote and that renders
    to nothing (a skipped task upstream, a missing key of the run's conf) must not just disappear: the task would do
    more than its author allowed. :meth:`check_given` refuses that, for every argument in ``template_fields``. An
    argument that was left out, or written as None, is absent.

    :cvar required: arguments without which there is nothing to do.
    :cvar inputs: arguments that may render to nothing, since nothing then means nothing to do.
    :cvar guards: arguments whose failure is an ``IMSGuardError``, which no retry buries.
    """

    template_fields: Collection[str] = ("ims_conn_id", "region")
    required: ClassVar[frozenset[str]] = frozenset()
    inputs: ClassVar[frozenset[str]] = frozenset()
    guards: ClassVar[frozenset[str]] = frozenset()

    ims_conn_id: str | None
    region: str | None
    _written: set[str]

    def __new__(cls, *args: Any, _airflow_from_mapped: bool = False, **kwargs: Any) -> IMSTask:
        """Remember which arguments come out of ``expand``, where even a None was written by somebody."""
        task = super().__new__(cls)
        task.__dict__["_written"] = _mapped_arguments(kwargs) if _airflow_from_mapped else set()
        return task

    def __setattr__(self, name: str, value: Any) -> None:
        """Remember which arguments had a value once: what the author wrote, before it was rendered."""
        if name == "_written":  # Airflow 2 copies it before there is what its own way of setting needs
            self.__dict__[name] = value
            return
        if value is not None and name in self.template_fields:
            self._written.add(name)
        super().__setattr__(name, value)

    @cached_property
    def hook(self) -> IMSHook:
        """The hook that this task's requests go through."""
        # Written as None, it is left out.
        named = IMSHook.default_conn_name if self.ims_conn_id is None else self.ims_conn_id
        return IMSHook(named, self.region)

    def storage_path(self, argument: str) -> ObjectStoragePath | None:
        """Return the path that an argument names, None for nothing; ``oss://`` paths take this task's connection.

        :raises ValueError: if no store is known for it.
        """
        from airflow_provider_ims.files.storage import storage_path

        value = getattr(self, argument)
        return None if is_nothing(value) else storage_path(value, argument, ims_conn_id=self.ims_conn_id)

    def check_given(self) -> None:
        """Refuse arguments that were written and are empty now. Costs nothing; call it before the first request.

        :raises IMSGuardError: naming a guard that is gone.
        :raises ValueError: naming any other argument.
        """
        for name in self.template_fields:
            value = getattr(self, name)
            if name in self.inputs or not (
                is_nothing(value) or (isinstance(value, str) and is_missing(value))
            ):
                continue
            if name in self.required:
                raise ValueError(f"{name} is {show(value)}, which names nothing, and can't be left out")
            if name in self.guards & self._written:
                raise IMSGuardError(
                    f"{name} is given, but was rendered to {show(value)}, so it would guard nothing. "
                    "Nothing was deleted"
                )
            if name in self._written:
                raise ValueError(
                    f"{name} is given, but was rendered to {show(value)}; leave it out of the DAG "
                    "to do without it"
                )


def _mapped_arguments(kwargs: Mapping[str, Any]) -> set[str]:
    """Return which of a mapped task's arguments were made while the DAG ran, or would replace one that is given.

    ``partial(max_media=None)`` and ``expand(max_media=[None, 5])`` are None as it stands in the DAG.
    """
    mapped = kwargs["dag"].task_dict[kwargs["task_id"]]
    listed = mapped.expand_input.value
    literal: Collection[str]
    if isinstance(listed, Mapping):  # of expand()
        literal = {name for name, values in listed.items() if isinstance(values, Sequence | Mapping)}
    else:  # of expand_kwargs()
        is_literal = isinstance(listed, Sequence) and all(isinstance(one, Mapping) for one in listed)
        literal = kwargs.keys() if is_literal else ()
    return {
        name
        for name in kwargs
        if mapped.partial_kwargs.get(name) is not None
        or (name not in mapped.partial_kwargs and name not in literal)
    }
