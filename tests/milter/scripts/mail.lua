-- What the other scripts share: connect, and deliver a mail step by step, expecting answers.

function expect(what, got, wanted)
	if got ~= wanted then
		-- miltertest does not show errors
		mt.echo(what .. ": expected " .. tostring(wanted) .. ", got " .. tostring(got))
		error(what)
	end
end

function connect()
	local conn = mt.connect(address)
	expect("a connection", conn ~= nil, true)
	return conn
end

function envelope(conn, sender, recipient)
	expect("MAIL", mt.mailfrom(conn, sender), nil)
	expect("the answer to MAIL", mt.getreply(conn), SMFIR_CONTINUE)
	expect("RCPT", mt.rcptto(conn, recipient), nil)
end

function content(conn, subject)
	expect("a header", mt.header(conn, "Subject", subject), nil)
	expect("end of headers", mt.eoh(conn), nil)
	expect("the body", mt.bodystring(conn, subject .. "\r\n"), nil)
end

function finish(conn, reply)
	expect("end of message", mt.eom(conn), nil)
	expect("the answer to end of message", mt.getreply(conn), reply or SMFIR_CONTINUE)
	for _, change in ipairs({MT_HDRADD, MT_HDRINSERT, MT_HDRCHANGE, MT_BODYCHANGE, MT_QUARANTINE}) do
		expect("change " .. change, mt.eom_check(conn, change), false)
	end
end

function deliver(conn, sender, recipient, subject)
	envelope(conn, sender, recipient)
	content(conn, subject)
	finish(conn)
end
