"""The recipe of pictures on the wide material: cut-outs, CLIP features and a tuned network."""
