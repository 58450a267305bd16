"""What is in the media: faces, footage, drawings, speech, and where a score comes from."""
