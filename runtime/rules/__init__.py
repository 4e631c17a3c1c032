"""What a retailer wants and does not want to be recommended."""
