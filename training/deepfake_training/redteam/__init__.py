"""The red team: every attack of :mod:`deepfake_training.attacks` on labelled files, and what it
did.

``case`` is one file under attack, ``tools`` what its attacks share, ``suite`` the attacks by kind
of file, ``run`` all of them over all files, remembered as it goes; ``result`` counts, ``tables``
and ``page`` show.
"""
