# TAKEN: someone else writes patterns now. Do not write it and do not commit this file: delete it, and finish after backprop_by_hand.
