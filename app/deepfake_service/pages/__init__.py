"""Pages for people beside the Gradio page: signing in, and the cases of moderators."""
