"""Files of torch.save: archives of today, files of old, and the pickles in both."""
