"""gradtrace inside other people's tools. Each module imports its tool when it is used, so none of them is a requirement.

lightning     callback for a Lightning Trainer            pip install 'gradtrace[lightning]'
transformers  callback for a Hugging Face Trainer         pip install 'gradtrace[transformers]'
tensorboard   sink that writes component shares           pip install 'gradtrace[tensorboard]'
mlflow        sink that logs component shares             pip install 'gradtrace[mlflow]'
networkx      the operator graph with a trace's numbers   (networkx comes with torch)
"""
