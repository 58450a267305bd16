"""What the service remembers: identities, jobs, reports, rulings, in a database."""
