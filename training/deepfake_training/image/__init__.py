"""Pictures of the training material, and what makes copies of them."""
