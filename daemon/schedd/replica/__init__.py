"""Jobs over organizations that live in a bucket: fetch, publish what changed, carry over on conflict."""
