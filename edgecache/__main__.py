"""`python -m edgecache`: the same program as the `edgecache` command."""

from edgecache.cli.main import main

if __name__ == "__main__":
    main()
