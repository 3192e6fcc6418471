"""Where stages run. `local` is a fork server on this machine."""
