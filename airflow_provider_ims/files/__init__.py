"""Where things lie: storage paths, manifests and reports. Knows no policy and no request."""
