"""One clip on several processes: ranks, token sharding, sharded weights and parallel decoding."""
