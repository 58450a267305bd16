"""Clips of many repositories: frames and faces of them, and what is fitted on their features."""
