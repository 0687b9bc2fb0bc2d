from irepa.cli import main

main()
