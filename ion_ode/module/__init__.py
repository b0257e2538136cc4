"From a coupon to a plant: pressure in, product of spiral-wound modules out."
