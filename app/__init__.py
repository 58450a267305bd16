"""The web page over a Detector."""
