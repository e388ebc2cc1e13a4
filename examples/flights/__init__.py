"""Late arrivals: a whole project on the flights that left New York in 2013."""
