-- ABORT after a mail was accepted does not undo it.

dofile("mail.lua")
conn = connect()
deliver(conn, "<a@b>", "<c@d>", "one")
expect("ABORT", mt.abort(conn), nil)
deliver(conn, "<e@f>", "<g@h>", "two")
expect("ABORT", mt.abort(conn), nil)
mt.disconnect(conn)
