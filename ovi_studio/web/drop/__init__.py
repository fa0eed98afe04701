"""Files dropped anywhere on the page: the overlay, the route that receives them, and the report on each of them."""
