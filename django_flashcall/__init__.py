"""Phone verification by flash call and voice code for Django."""
