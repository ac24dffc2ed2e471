"""Whether a template reads only what is there: its mappings, conditions and expressions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

from fulfillment.definitions.branches import uncertain_tasks
from fulfillment.definitions.dependencies import OutputDependency
from fulfillment.definitions.expressions import (
    Expression,
    ExpressionInvalid,
    compile_condition,
    compile_expression,
    paths_in,
)
from fulfillment.definitions.kinds import steps_with_outputs
from fulfillment.definitions.names import members_of, names_under, output_type, roots_of
from fulfillment.definitions.references import (
    Computed,
    Reference,
    ReferenceMalformed,
    parse,
    texts_in,
)
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import Join, Scope

Report = Callable[[str, str, str], None]
"""(code, path, message)"""
# Of an expression that does not compile: what these say helps more than the compiler's words.
_TELLING = {"reference_scope", "unknown_task", "undeclared_output", "output_without_dependency"}


class Readable:
    """What may be read in one place of a template; every fault is reported with its path."""

    def __init__(
        self,
        *,
        definition: WorkflowDefinition,
        scope: Scope,
        report: Report,
        outputs: Mapping[str, bool] | None = None,
        plan: bool = True,
        element: bool = False,
    ) -> None:
        """`outputs` are the `task.output` pairs at hand, and whether each may be missing although
        its task declares it; None where no task has run yet."""
        self._declared = steps_with_outputs(definition.tasks)
        self._scope = scope
        self._report = report
        self._outputs = outputs
        interface = definition.subprocess
        self._inputs = None if interface is None else interface.inputs
        self._roots = roots_of(
            item_level=scope is Scope.ITEM,
            plan=plan,
            element=element,
            subprocess=interface is not None,
        )
        names = dict(names_under(self._roots))
        for name, spec in (self._inputs or {}).items():
            names[f"inputs.{name}"] = output_type(
                type_=spec.type, optional=spec.optional, of_every_item=False
            )
        for pair, may_be_missing in (outputs or {}).items():
            task, _, name = pair.partition(".")
            declared = self._declared.get(task, {}).get(name)
            if declared is not None:
                every = scope is Scope.ORDER and definition.tasks[task].scope is Scope.ITEM
                names[f"tasks.{pair}"] = output_type(
                    type_=declared.type,
                    optional=declared.optional or may_be_missing,
                    of_every_item=every,
                )
        self.names: Mapping[str, str] = names
        """Every name that expressions may read here, with its type."""

    @classmethod
    def for_task(
        cls,
        *,
        definition: WorkflowDefinition,
        task: str,
        report: Report,
        own_outputs: bool = False,
        element: bool = False,
        certain: bool = False,
    ) -> Self:
        """What a task may read: the outputs that it depends on, and in its undo its own.

        `certain` leaves out those whose dependency may not exist.
        """
        spec = definition.tasks[task]
        uncertain: Collection[str] = ()
        if spec.join is Join.DEFERRED:
            uncertain = uncertain_tasks(definition.tasks)
        outputs: dict[str, bool] = {}
        for one in spec.depends_on:
            if isinstance(one, OutputDependency) and not (certain and one.when):
                upstream = definition.tasks.get(one.task)
                may_be_missing = (
                    one.task in uncertain
                    or one.when is not None
                    or (upstream is not None and upstream.only_if is not None)
                )
                outputs[one.output] = outputs.get(one.output, True) and may_be_missing
        if own_outputs:
            outputs.update({f"{task}.{output}": False for output in spec.outputs})
        return cls(
            definition=definition,
            scope=spec.scope,
            report=report,
            outputs=outputs,
            element=element,
        )

    @classmethod
    def for_results(cls, *, definition: WorkflowDefinition, report: Report) -> Self:
        """What the outputs of a sub-process may be made of: those of any of its tasks."""
        uncertain = uncertain_tasks(definition.tasks)
        outputs = {
            f"{task}.{output}": task in uncertain or not spec.required or spec.only_if is not None
            for task, spec in definition.tasks.items()
            for output in steps_with_outputs(definition.tasks)[task]
        }
        return cls(definition=definition, scope=Scope.ITEM, report=report, outputs=outputs)

    def check_mapping(self, value: Any, path: str) -> None:
        """Every reference and expression in a JSON value."""
        for place, text in texts_in(value, path=path):
            try:
                parts = parse(text)
            except ReferenceMalformed as malformed:
                self._report("reference_malformed", place, str(malformed))
                continue
            for part in parts:
                if isinstance(part, Reference):
                    code, message = self._fault(part)
                    if code:
                        self._report(code, place, f"${{{part}}}: {message}")
                elif not isinstance(part, str):
                    self.check_expression(part.text, place)

    def is_one_value(self, text: str) -> bool:
        """Whether it is exactly one reference or expression, and so keeps its type."""
        parts = parse(text)
        return len(parts) == 1 and not isinstance(parts[0], str)

    def type_of(self, text: str) -> str | None:
        """What a mapping text comes to, as `Expression.returns`; None when it is at fault."""
        try:
            parts = parse(text)
        except ReferenceMalformed:
            return None
        types = []
        for part in parts:
            if isinstance(part, Reference):
                if self._fault(part)[0]:
                    return None
                types.append(self._declared_type(part))
            elif isinstance(part, Computed):
                try:
                    types.append(compile_expression(text=part.text, names=self.names).returns)
                except ExpressionInvalid:
                    return None
        return types[0] if types and len(parts) == 1 else "string"

    def expression(self, text: str) -> Expression | None:
        """The one that a faultless mapping text is, if it is one."""
        (part, *more) = parse(text)
        if more or not isinstance(part, Computed):
            return None
        return compile_expression(text=part.text, names=self.names)

    def _declared_type(self, reference: Reference) -> str:
        path = reference.path
        if path[0] == "items" and path[1:] and path[1].isdecimal():
            names, path = names_under(frozenset({"item"})), ("item", *path[2:])
        else:
            names = self.names
        name = ".".join(path)
        if name in names:
            return names[name]
        # A member of something free, or something with members of its own.
        return "object" if any(one.startswith(f"{name}.") for one in names) else "any"

    def check_condition(self, text: str, path: str) -> Expression | None:
        """The compiled condition; None, and a report, when it is none."""
        return self._compiled(compile_condition, text, path)

    def check_expression(self, text: str, path: str) -> Expression | None:
        """The compiled expression; None, and a report, when it is none."""
        return self._compiled(compile_expression, text, path)

    def _compiled(
        self, compile_: Callable[..., Expression], text: str, path: str
    ) -> Expression | None:
        try:
            return compile_(text=text, names=self.names)
        except ExpressionInvalid as invalid:
            faults = {
                fault
                for path_ in paths_in(text)
                if (fault := self._fault(Reference(path=path_, optional=True)))[0] in _TELLING
            }
            for code, message in sorted(faults):
                self._report(code, path, f"{text}: {message}")
            if not faults:
                self._report("expression_invalid", path, str(invalid))
            return None

    def _fault(self, reference: Reference) -> tuple[str, str]:
        root, rest = reference.root, reference.path[1:]
        if root == "tasks" and self._outputs is not None:
            return self._task_fault(reference, self._outputs)
        if root == "inputs" and self._inputs is not None:
            if rest and rest[0] not in self._inputs:
                known = ", ".join(self._inputs) or "none"
                return "reference_path", f"there is no input {rest[0]!r} (known: {known})."
            return "", ""
        if root == "element" and "element" in self._roots:
            return "", ""
        if root in self._roots:
            # `items` alone is the list of whole items, `items.0.price` the first one's price.
            picked = rest[1:] if root == "items" and rest and rest[0].isdecimal() else rest
            return _field_fault(picked, members_of(root))
        item_root = "item" if self._scope is Scope.ITEM else "items"
        if root in ("item", "items") and self._inputs is not None:
            message = "a sub-process reads its inputs and the order, not the items of its user."
            return "reference_scope", message
        if root in ("item", "items"):
            message = (
                f"{self._scope.value}-level, so write {item_root}. (order-level tasks serve all "
                "items at once: items.price is the list of prices)."
            )
            return "reference_scope", message
        more = [
            *(["tasks"] if self._outputs is not None else []),
            *(["inputs"] if self._inputs is not None else []),
        ]
        roots = ", ".join([*sorted(self._roots - {"order"}), *more])
        return "reference_root", f"unknown root; here one may refer to order, {roots}."

    def _task_fault(self, reference: Reference, outputs: Mapping[str, bool]) -> tuple[str, str]:
        if len(reference.path) < 3:
            return "reference_path", "write tasks.<task>.<output>."
        task, output = reference.path[1:3]
        declared = self._declared.get(task)
        if declared is None:
            return "unknown_task", f"there is no task {task!r}."
        if output not in declared:
            known = ", ".join(declared) or "none"
            message = f"{task} declares no output {output!r} (it declares: {known})."
            return "undeclared_output", message
        if f"{task}.{output}" not in outputs:
            message = f"add {{output: {task}.{output}}} to depends_on, so that the value is there."
            return "output_without_dependency", message
        missing = declared[output].optional or outputs[f"{task}.{output}"]
        if missing and not reference.optional:
            message = (
                f"this output may be missing; write ${{{reference}?}} to pass null without it."
            )
            return "optional_output", message
        return "", ""


def _field_fault(
    path: tuple[str, ...], fields: Mapping[str, frozenset[str] | None]
) -> tuple[str, str]:
    if not path:
        return "", ""
    if path[0] not in fields:
        known = ", ".join(fields)
        return "reference_path", f"there is no {path[0]!r} (known: {known})."
    members = fields[path[0]]
    if members is not None and len(path) > 1 and (path[1] not in members or len(path) > 2):
        known = ", ".join(sorted(members)) or "none, it is a plain value"
        return "reference_path", f"{path[0]} has no member {'.'.join(path[1:])!r} (known: {known})."
    return "", ""
