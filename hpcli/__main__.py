"""Entry point of the `hpcli` command."""

import sys

from hpcli.version import __version__


def main() -> None:
    """Run the command line and exit with its code. The version costs no import."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"hpcli {__version__}\n")
        return
    try:
        from hpcli.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # Pressed before, or after, there was anything that could say so.
        sys.stderr.write("error: hpcli: interrupted\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
