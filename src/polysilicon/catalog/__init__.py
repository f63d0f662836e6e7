"""What can be bought: processors, offers, commitments and model architectures, as data with sources."""
