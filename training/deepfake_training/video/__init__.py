"""The slot ``video``: material, fakes, fitting, what a user is told."""
