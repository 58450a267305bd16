"""The version of the package, here because reading it from installed metadata takes 30 ms."""

VERSION = "0.1.0"
