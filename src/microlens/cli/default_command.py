"""Groups of commands of which one runs if none is named."""

from typing import Any

from typer.core import TyperGroup


def group_with_default(command: str) -> type[TyperGroup]:
    """The class of a group that runs ``command`` with the given arguments if they begin with no command."""

    class DefaultCommandGroup(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            shows_help = not args and self.no_args_is_help
            if not shows_help and args[:1] != ["--help"] and args[:1] not in [[name] for name in self.commands]:
                args = [command, *args]
            parsed: list[str] = super().parse_args(ctx, args)
            return parsed

    return DefaultCommandGroup
