;reject "no"; ereject text:
no
.
;