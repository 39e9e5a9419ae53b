"""`ganengine diagnose`: small games whose outcome is known, to see whether a setting plays them as theory says."""
