"""One clip on several GPUs: the plan, weights sharded between ranks, and passes and tokens split over them."""
