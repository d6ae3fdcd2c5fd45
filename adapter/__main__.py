"""`python -m adapter` serves; `… ocr FILE…` has a running server read documents; `… keys` is about API keys."""

import sys

USAGE = """\
usage: python -m adapter             serve
       python -m adapter ocr FILE…   read images and PDFs; --help says more
       python -m adapter keys        make, list and revoke API keys; --help says more
"""


def main() -> None:
    # Imported where they are needed: none of them loads the others' libraries.
    match sys.argv[1:]:
        case []:
            from adapter.serve import main as serve

            serve()
        case ["ocr", *arguments]:
            from adapter.cli.command import main as read_documents

            sys.exit(read_documents(arguments))
        case ["keys", *arguments]:
            from adapter.access.command import main as manage_keys

            sys.exit(manage_keys(arguments))
        case ["-h" | "--help"]:
            sys.stdout.write(USAGE)
        case _:
            sys.stderr.write(USAGE)
            sys.exit(2)


if __name__ == "__main__":
    main()
