"""Files of torch.save: current archives, old files, and the pickles in both."""
