"""`python -m adapter` serves; `python -m adapter ocr FILE…` has a running server read documents."""

import sys

USAGE = """\
usage: python -m adapter             serve
       python -m adapter ocr FILE…   read images and PDFs; --help says more
"""


def main() -> None:
    # Imported where they are needed: neither of the two loads the other's libraries.
    match sys.argv[1:]:
        case []:
            from adapter.serve import main as serve

            serve()
        case ["ocr", *arguments]:
            from adapter.cli.command import main as read_documents

            sys.exit(read_documents(arguments))
        case ["-h" | "--help"]:
            sys.stdout.write(USAGE)
        case _:
            sys.stderr.write(USAGE)
            sys.exit(2)


if __name__ == "__main__":
    main()
