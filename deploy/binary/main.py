"""What Nuitka compiles: the program that is schedd, schedctl and the commands on the machine."""

from schedd.multicall import main

if __name__ == "__main__":
    main()
