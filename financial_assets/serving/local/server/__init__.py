"""What the plane adds to MLServer: requests read strictly, tensors as arrays, and a short way to the answer."""
