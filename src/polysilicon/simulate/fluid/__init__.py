"""The fluid mode: queues as flows over time, for fleets beyond what single events can carry."""
