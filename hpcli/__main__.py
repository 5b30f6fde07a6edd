"""Entry point of the `hpcli` command."""

import sys

from hpcli.version import __version__


def main() -> None:
    """Run the command line and exit with its code. The version costs no import."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"hpcli {__version__}\n")
        return
    from hpcli.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
