"""Requests that the service sends itself: webhooks, and media that are fetched."""
