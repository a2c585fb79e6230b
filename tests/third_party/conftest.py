"""The tests of the example package run in its own environment, see test_package.py."""

collect_ignore = ["package"]
