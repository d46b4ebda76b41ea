"""Figures: from what is known of a net, a run, a store or some pictures to a drawing. `drawing` holds what they share."""
