"""What is done to media so that they are judged wrongly: a module for each family of attacks.

Every attack is a function of pixels, samples or a clip, for the red team that counts what it does
(:mod:`deepfake_training.redteam`) and for training that is to withstand it.
"""
