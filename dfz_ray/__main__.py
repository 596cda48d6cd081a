"""`python -m dfz_ray`: the same as `dfz`."""

from dfz_ray.cli import main

if __name__ == "__main__":
    main()
