"""The command `handos`: one file per sub-command."""
