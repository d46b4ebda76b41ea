"""The data rooms: sources, images, store, views and batches, in the order in which pictures flow through them."""
