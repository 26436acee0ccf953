require "ihave";
if ihave ["vnd.x", "fileinto"] { foo :bar "x"; } elsif foo { fileinto "x"; }
