"""WHAT the work is: each package is a built-in domain; `domain` is the contract that they fulfil."""
