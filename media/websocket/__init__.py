"""Audio over WebSockets: sans-IO protocols, and one thin server under them."""
