"""One head from the files of many sites that keep them: only numbers of the head travel."""
