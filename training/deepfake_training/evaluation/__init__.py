"""How well a detector does on labelled files: every file through ``Detector``, as a user meets it.

``material`` reads a folder or a manifest, ``views`` makes what becomes of a file on its way to the
judge, ``run`` examines all of them (``journal`` remembers, ``peers`` asks other detectors),
``measures`` and ``tabulate`` make numbers of it, ``compare`` sets two of them side by side, and
``result``, ``tables`` and ``page`` write them down. ``deepfake evaluate`` (``command``) is the
command line; docs/evaluation.md is for its users.
"""
