"""SIP: sans-IO layers by RFC 3261's chapters, and one thin shell for UDP, TCP and TLS."""
